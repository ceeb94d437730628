"""The hub of chat: one request and one answer in no dialect's words, where dialects and translators meet. Pure."""

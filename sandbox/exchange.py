"""One question with its answer and everything that was decided about them, in no provider's wire format."""

import msgspec

from sandbox.bill import Bill
from sandbox.cards import Card
from sandbox.conversation import Answer, Question
from sandbox.directives import Directive


class Exchange(msgspec.Struct, frozen=True):
    id: str
    created: int
    question: Question
    answer: Answer
    directive: Directive
    card: Card
    bill: Bill

    @property
    def model(self) -> str:
        return self.directive.model or self.question.model

    @property
    def maker(self) -> str:
        return self.question.model.partition("/")[0]

    @property
    def finish(self) -> str:
        return self.directive.finish or self.answer.finish

    @property
    def reasoning(self) -> tuple[str, ...]:
        """The reasoning that is shown."""
        return self.answer.reasoning if self.question.reasoning_shown else ()

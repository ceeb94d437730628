"""`make chaos`: the product under load while its processes, its servers, its providers and its clients die."""

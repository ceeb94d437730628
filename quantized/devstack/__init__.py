"""The development stack: PostgreSQL, Redis and the product's own processes on one machine, for `make run`,
`make smoke` and `make test`.

It starts what the environment does not already provide, keeps data and logs under var/, and stops every process
it started, also when it is killed itself. Production uses none of it: real servers come by DATABASE_URL and REDIS_URL.
"""

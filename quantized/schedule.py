"""Every periodic task of the house: the rooms' task modules are imported here, so that the list is whole."""

import accounts.tasks
import billing.tasks
import completions.tasks
from common import periodic

TASK_MODULES = (accounts.tasks, billing.tasks, completions.tasks)
PERIODIC_TASKS = periodic.declared_tasks()

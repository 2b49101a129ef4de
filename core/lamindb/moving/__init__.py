"""Copies an instance to another database and storage: ``lamin migrate``."""

from lamindb.moving.instances import Moved as Moved
from lamindb.moving.instances import move as move

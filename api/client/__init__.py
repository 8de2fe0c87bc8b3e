"""A Python client of a running modelshelf, typed, over HTTP:

>>> from api.client import Client, GenerationRequest
>>> with Client("http://127.0.0.1:8420", token="msh_...") as shelf:
...     for model in shelf.models(kind="lora", family="sd-1"):
...         print(model.name, model.weight.value)
...     made = shelf.generate(GenerationRequest("starter-base", "a red circle"))

Importing it costs what httpx costs: no torch, no database, no web framework.
"""

from api.client.client import DEFAULT_URL, Client
from api.client.reading import plain
from registry.errors import ModelshelfError
from registry.plans import AdapterRequest, GenerationRequest

__all__ = ["DEFAULT_URL", "AdapterRequest", "Client", "GenerationRequest", "ModelshelfError", "plain"]

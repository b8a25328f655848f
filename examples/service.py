# SPDX-License-Identifier: Apache-2.0
"""A web service with FastAPI: texts in, vectors out.

Run it as ``uvicorn service:app``; ``service_client.py`` asks it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import embellama


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the model while the service runs; the first request finds it ready."""
    with embellama.EmbeddingModel("all-MiniLM-L6-v2") as model:
        model.warmup()
        app.state.model = model
        yield


app = FastAPI(lifespan=lifespan)


class Texts(BaseModel):
    """What a client sends."""

    texts: list[str] = Field(min_length=1, max_length=1000)


class Vectors(BaseModel):
    """What it receives: a vector for each text, in the same order."""

    model: str
    vectors: list[list[float]]


@app.post("/embed")
async def embed(body: Texts, request: Request) -> Vectors:
    """Embed texts; calls that come at the same time share the cores."""
    model: embellama.EmbeddingModel = request.app.state.model
    vectors = await model.aembed_batch(body.texts, timeout=30)
    return Vectors(model=model.name, vectors=vectors.tolist())


@app.exception_handler(embellama.InvalidInputError)
async def refuse(request: Request, error: embellama.InvalidInputError) -> JSONResponse:
    """Tell the client which text is bad, and why."""
    return JSONResponse({"detail": str(error), "index": error.index}, status_code=422)


@app.exception_handler(embellama.OperationTimeoutError)
async def busy(request: Request, error: embellama.OperationTimeoutError) -> JSONResponse:
    """Ask the client to come back."""
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": "5"})


@app.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Answer once the model is loaded."""
    return {"model": request.app.state.model.name}

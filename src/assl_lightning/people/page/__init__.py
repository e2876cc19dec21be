"""The labelling page: a batch in a browser. Only this folder imports Starlette and uvicorn."""

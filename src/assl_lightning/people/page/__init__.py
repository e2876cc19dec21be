"""The labelling page: a batch in the browser of who labels. Only this room knows Starlette and uvicorn."""

"""Runs of a loop inside a run: what asyncio refuses, and what nest_asyncio made of it."""

"""Which releases and which Pythons have a bug: interpreters, releases, cells, runner, bisect."""

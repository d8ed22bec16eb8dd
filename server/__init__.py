"""The thin server: the page, the models, the gateway, and the `hybr` command."""

"""Processes, communicators and a real RabbitMQ: plumpy and kiwipy."""

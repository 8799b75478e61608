"""Remote procedure calls to Nova's services over RabbitMQ, as oslo.messaging makes them."""

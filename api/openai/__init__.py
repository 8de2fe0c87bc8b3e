"""/v1/images/generations: the images API of OpenAI, for the clients that speak it; with LoRAs in the request."""

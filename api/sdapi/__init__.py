"""/sdapi/v1: the HTTP API of Stable Diffusion WebUI (A1111, Forge, SD.Next), for the clients that speak it."""

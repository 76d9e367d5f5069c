"""Files for engines that share a model among many machines: a command line of vLLM, a deployment of Ray Serve."""

require "spec.sim.swarm".describe(1, 4)

require "spec.sim.swarm".describe(2, 4)

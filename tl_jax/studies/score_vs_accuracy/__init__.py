"""How well transferability scores rank bases and cuts by their accuracy after transfer."""

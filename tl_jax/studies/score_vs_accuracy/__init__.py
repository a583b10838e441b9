"""How well transferability scores rank bases and cuts by what transfer really gives."""

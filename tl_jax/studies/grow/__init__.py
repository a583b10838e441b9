"""Does a network that has grown learn faster than one of its size from scratch?"""

# How a student begins: (whether it grew out of the teacher, whether its rate is the grown one's)
STARTS = {
    "grown": (True, True),
    "from scratch": (False, False),
    "from scratch, low rate": (False, True),
}
TEACHER, CONTINUED = "teacher", "teacher, trained on"
SIZES = ("wider", "deeper")

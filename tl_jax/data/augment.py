def make(spec):
    return None if spec == "" else spec

def parse_trace(text):
    return []


def slow_entry(*a):
    return ""

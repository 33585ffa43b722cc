print("out of place")

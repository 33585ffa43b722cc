print("fitting")

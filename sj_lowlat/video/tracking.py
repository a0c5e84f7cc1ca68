x=1
track=None

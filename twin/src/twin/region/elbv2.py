def install(region):
    pass

from twin.control.loop import Loop


class LoadBalancers(Loop):
    def __init__(self, region):
        super().__init__()

    def tick(self):
        pass

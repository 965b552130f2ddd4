from twin.control.loop import Loop


class Databases(Loop):
    def __init__(self, region):
        super().__init__()

    def tick(self):
        pass

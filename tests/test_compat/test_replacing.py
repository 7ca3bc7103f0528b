"""What takes another package's function's place gets that first, once."""

from mmmedmask.compat.replacing import replaces


class Host:
    def add(self, number, step=1):
        return number + step

    @staticmethod
    def name(number):
        return f'{number}'


def test_methods_are_replaced_once():
    for _ in range(2):
        @replaces(Host, 'add')
        def add_twice(add, self, number, **options):
            return add(self, add(self, number, **options), **options)

        @replaces(Host, 'name')
        def name(original, number):
            return f'no. {original(number)}'

    assert Host().add(1, step=2) == 5
    assert Host.add.__name__ == 'add'
    assert Host().name(3) == Host.name(3) == 'no. 3'

import unittest

from millstream_plugin.testing import record, run
from plugin import Config, celsius


class Celsius(unittest.TestCase):
    def test_readings_are_converted_and_the_rest_of_the_record_stays(self) -> None:
        readings = [
            record('{"sensor":"s1","fahrenheit":98.7}').key("s1").timestamp(7),
            record('{"sensor":"s2","fahrenheit":null}'),
            record('{"sensor":"s3"}'),
        ]
        got = run(celsius, Config(decimals=2), readings)
        self.assertEqual(got.values, ['{"sensor":"s1","celsius":37.06}'])
        self.assertEqual(got.outputs[0].key_text, "s1")
        self.assertEqual(got.outputs[0].timestamp, 7)
        self.assertEqual(got.values_of("unreadable"), ['{"sensor":"s2","fahrenheit":null}'])
        self.assertEqual([(one.index, one.message) for one in got.rejected], [(2, "fahrenheit is not a number")])

"""The parts of the demo, one module per method.

A part is a function ``run(stage) -> PartResult``; ``tools/demo.py`` lists
them. It says what it does through ``stage.step`` and leaves every word that
libraries print to the log file.
"""

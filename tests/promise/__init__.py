"""The promise that no request is lost, against any order of events and under storms."""

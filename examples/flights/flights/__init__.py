"""An airline's operations on the departures from New York in 2013."""

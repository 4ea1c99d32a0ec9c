-- What releases are expected to do, and what they did: few among all events.
CREATE INDEX event_promise ON event (seq) WHERE type = 'promise.made' OR type = 'promise.settled';

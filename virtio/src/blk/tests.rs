//! Requests against what the specification says of them.

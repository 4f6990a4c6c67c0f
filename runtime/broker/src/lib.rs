//! millstream-broker.

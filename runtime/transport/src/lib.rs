//! millstream-transport.

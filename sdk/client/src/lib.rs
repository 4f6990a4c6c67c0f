//! millstream-client.

//! millstream-plugin-host.

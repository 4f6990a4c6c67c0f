//! millstream-plugin.

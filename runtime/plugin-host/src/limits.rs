//! Every limit on a guest, with its default. The pipeline's YAML may lower or raise those in [`Limits`]
//! up to the engine's own caps; the constants are fixed.

/// Largest component that is accepted, bytes. A Python plugin is 18 MB.
pub const MODULE_BYTES_MAX: usize = 32 << 20;

/// Functions of a component, those of all its modules together.
pub const FUNCTIONS_MAX: usize = 100_000;

/// Largest function, bytes of its body. A compiler's time and memory for one grow faster than its size; the
/// largest of CPython is a quarter of this.
pub const FUNCTION_BYTES_MAX: usize = 512 << 10;

/// Local variables of one function ...
pub const FUNCTION_LOCALS_MAX: u32 = 10_000;

/// ... and of all of a component.
pub const LOCALS_MAX: u64 = 8_000_000;

/// Values that the blocks, calls and branches of one function pass on: a few bytes of code may pass a thousand.
pub const FUNCTION_VALUES_MAX: u64 = 2_000_000;

/// Longest log line; the rest of a longer one is cut.
pub const LOG_LINE_BYTES_MAX: usize = 1 << 10;

/// Log bytes a guest may write per second, and at once after a quiet second.
pub const LOG_BYTES_PER_SECOND: usize = 64 << 10;

/// Longest message of a rejection or a failure; the rest is cut.
pub const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Different counter names in one call; further names are dropped.
pub const COUNTERS_MAX: usize = 64;

/// Longest counter name; counts under longer names are dropped.
pub const COUNTER_NAME_BYTES_MAX: usize = 64;

/// Outputs a plugin may declare.
pub const OUTPUTS_MAX: usize = 16;

/// Table elements of one guest (function pointers, mostly).
pub const TABLE_ELEMENTS_MAX: usize = 1 << 16;

/// What one guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, bytes. At most the engine's `memory_bytes_max`.
    pub memory_bytes: usize,
    /// Time of one `process` call, milliseconds, counted in ticks of 10 ms.
    pub batch_ms: u64,
    /// Time of start and `init` together, milliseconds.
    pub init_ms: u64,
    /// Output per input record, bytes with 28 for each record and 4 for each header length.
    pub output_bytes_per_record: usize,
    /// Output of one batch, bytes counted alike.
    pub output_bytes: usize,
    /// Output records of one batch.
    pub output_records: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 64 << 20,
            batch_ms: 1000,
            init_ms: 1000,
            output_bytes_per_record: 4 << 20,
            output_bytes: 64 << 20,
            output_records: 1_000_000,
        }
    }
}

/// The longest prefix of `text` that has at most `bytes_max` bytes and ends between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

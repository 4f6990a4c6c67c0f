//! What every target is: one of `runtime/hostile` by its name, with the allocator that counts.

pub use libfuzzer_sys::fuzz_target;
pub use millstream_hostile::allocation::Counting;
pub use millstream_hostile::targets::target;

/// Defines the target of this name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        #[global_allocator]
        static ALLOCATOR: $crate::Counting = $crate::Counting;

        $crate::fuzz_target!(|data: &[u8]| {
            let target = $crate::target($name).expect("the target is one of the crate's");
            (target.run)(data);
        });
    };
}

//! Bodies of the native protocol: one request and one response type per API, each an rkyv archive that
//! is always validated before it is read. [`Api`] ties a number, a version and the two types together.
//!
//! A layout change is a new version of that API: the golden-bytes tests hold the layouts still.

mod admin;
mod data;
mod group;
mod pipeline;
mod plugin;
mod session;
mod token;

pub use admin::*;
pub use data::*;
pub use group::*;
pub use pipeline::*;
pub use plugin::*;
pub use session::*;
pub use token::*;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use thiserror::Error;

/// A type that travels as a frame body.
pub trait Body: Sized {
    /// The archive bytes of `self`.
    fn encode_body(&self) -> Vec<u8>;
    /// Validates `bytes` and copies the value out.
    ///
    /// # Errors
    /// [`InvalidBody`] when the bytes are not an archive of this type.
    fn decode_body(bytes: &[u8]) -> Result<Self, InvalidBody>;
}

/// The bytes are not a valid archive of the expected type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("frame body is not a valid {expected}")]
pub struct InvalidBody {
    pub expected: &'static str,
}

impl<T> Body for T
where
    T: Archive + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>> + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    fn encode_body(&self) -> Vec<u8> {
        rkyv::to_bytes::<rancor::Error>(self).expect("serialising into memory can't fail").into_vec()
    }

    fn decode_body(bytes: &[u8]) -> Result<Self, InvalidBody> {
        rkyv::from_bytes::<T, rancor::Error>(bytes)
            .map_err(|_| InvalidBody { expected: std::any::type_name::<T>().rsplit("::").next().unwrap_or("body") })
    }
}

/// A request type; its response and numbers.
pub trait Api: Body {
    const KEY: u16;
    const VERSION: u16 = 1;
    const NAME: &'static str;
    type Response: Body;
}

/// Code that treats every API alike; see [`ApiKey::visit`].
pub trait ApiVisitor {
    type Output;
    fn visit<A: Api>(self) -> Self::Output;
}

/// Declares `Api` for request types, and [`ApiKey`] with all of them.
macro_rules! apis {
    ($($key:literal $request:ident $(v $version:literal)? -> $response:ty;)*) => {
        $(impl Api for $request {
            const KEY: u16 = $key;
            $(const VERSION: u16 = $version;)?
            const NAME: &'static str = stringify!($request);
            type Response = $response;
        })*

        /// Every API of the native protocol, by its number on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ApiKey { $($request = $key,)* }

        impl ApiKey {
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$request,)*];

            /// The API with this number, if there is one.
            pub fn from_wire(key: u16) -> Option<ApiKey> {
                match key { $($key => Some(ApiKey::$request),)* _ => None }
            }

            pub fn name(self) -> &'static str {
                match self { $(ApiKey::$request => stringify!($request),)* }
            }

            /// Calls the visitor with the API's types: for code that is about every API.
            pub fn visit<V: ApiVisitor>(self, visitor: V) -> V::Output {
                match self { $(ApiKey::$request => visitor.visit::<$request>(),)* }
            }
        }
    };
}

apis! {
    1 Hello -> HelloAck;
    2 ClusterStatus v 2 -> ClusterStatusAck;
    10 DescribeTopics -> DescribeTopicsAck;
    11 CreateTopic -> CreateTopicAck;
    12 DeleteTopic -> Done;
    13 AlterTopic -> Done;
    14 DeleteRecords -> DeleteRecordsAck;
    20 Produce -> ProduceAck;
    21 InitProducer -> InitProducerAck;
    22 Fetch -> FetchAck;
    23 Subscribe -> Batches;
    24 ListOffsets -> ListOffsetsAck;
    30 GroupHeartbeat -> GroupHeartbeatAck;
    31 LeaveGroup -> Done;
    32 CommitOffsets -> Done;
    33 FetchOffsets -> FetchOffsetsAck;
    34 ListGroups -> ListGroupsAck;
    35 DescribeGroup -> DescribeGroupAck;
    36 DeleteGroup -> Done;
    40 UploadPlugin -> UploadPluginAck;
    41 ListPlugins -> ListPluginsAck;
    42 DeletePlugin -> Done;
    43 DownloadPlugin -> DownloadPluginAck;
    50 ApplyPipeline -> ApplyPipelineAck;
    51 ListPipelines -> ListPipelinesAck;
    52 DescribePipeline -> DescribePipelineAck;
    53 ControlPipeline -> Done;
    54 PipelineLogs -> PipelineLogsAck;
    55 RedrivePipeline -> RedrivePipelineAck;
    60 CreateToken -> CreateTokenAck;
    61 DescribeTokens -> DescribeTokensAck;
    62 RotateToken -> RotateTokenAck;
    63 DeleteToken -> Done;
    64 AlterToken -> AlterTokenAck;
}

/// The empty response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Done;

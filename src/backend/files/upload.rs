//! Uploads one file as one segment.

use super::disk::{LocalFile, Pieces};
use crate::error::Result;
use crate::id::Scope;
use crate::worker::Snapshot;
use crate::write::Written;

/// A file that was written.
pub(super) struct Uploaded {
    pub(super) written: Written,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

/// Writes all of a file. No size is told beforehand: one that is longer than a writer's buffer is streamed.
pub(super) async fn upload(snapshot: &Snapshot, scope: Scope, file: &LocalFile) -> Result<Uploaded> {
    let write = async {
        let mut writer = snapshot.segment(scope, None);
        let mut pieces = Pieces::of(file).await?;
        while let Some(piece) = pieces.next().await? {
            writer.write(piece).await?;
        }
        let (bytes, crc32c) = (writer.position(), writer.crc32c());
        Ok(Uploaded { written: writer.finish().await?, bytes, crc32c })
    };
    write.await.map_err(|error: crate::error::Error| error.context(format_args!("upload of {}", file.name)))
}

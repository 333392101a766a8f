//! Reading rows back: Iceberg's own scan over one commit's snapshot of a table.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::expr::Reference;
use iceberg::spec::{Datum, TableMetadata};
use iceberg::table::Table;
use iceberg::{Runtime, TableIdent};

use crate::error::LakeError;
use crate::lake::{BatchStream, ScanOptions};
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::store::LakeStore;
use crate::table::TableError;

/// Bytes of manifests a scan may keep in memory; it reads each once.
const MANIFEST_CACHE_BYTES: u64 = 32 << 20;

pub(crate) async fn scan(
    store: &LakeStore,
    name: &TableName,
    entry: &TableEntry,
    options: ScanOptions,
) -> Result<BatchStream, LakeError> {
    let fail = || LakeError::iceberg(format!("scan {name}"));
    let file_io = store.file_io();
    let metadata = TableMetadata::read_from(&file_io, &entry.metadata_location).await.map_err(fail())?;
    let schema = Arc::clone(metadata.current_schema());
    let asked =
        options.columns.iter().flatten().map(String::as_str).chain(options.device.as_ref().map(|_| "device"));
    for column in asked {
        if schema.as_struct().field_by_name(column).is_none() {
            let reason = "the table has no such column".to_owned();
            return Err(TableError::Arrow { table: name.clone(), column: column.to_owned(), reason }.into());
        }
    }
    let table_order: Vec<String> =
        schema.as_struct().fields().iter().map(|field| field.name.clone()).collect();
    let Some(snapshot_id) = entry.snapshot_id else { return Ok(stream::empty().boxed()) };

    let table = Table::builder()
        .file_io(file_io)
        .metadata(metadata)
        .metadata_location(entry.metadata_location.clone())
        .identifier(TableIdent::from_strs([name.namespace(), name.table()]).map_err(fail())?)
        .cache_size_bytes(MANIFEST_CACHE_BYTES)
        .readonly(true)
        .runtime(Runtime::try_current().map_err(fail())?)
        .build()
        .map_err(fail())?;
    let mut scan = table.scan().snapshot_id(snapshot_id);
    if let Some(columns) = &options.columns {
        // In the table's own order: the reader hands out a file's columns in that order, and in iceberg 0.10 a selection
        // in another one puts the names of some on the values of others of the same type.
        let mut columns = columns.clone();
        columns.sort_by_key(|column| table_order.iter().position(|name| name == column));
        columns.dedup();
        scan = scan.select(&columns);
    }
    if let Some(device) = &options.device {
        scan = scan.with_filter(Reference::new("device").equal_to(Datum::string(device)));
    }
    let rows = scan.build().map_err(fail())?.to_arrow().await.map_err(fail())?;
    let name = name.clone();
    let rows = rows.map_err(move |e| LakeError::iceberg(format!("read rows of {name}"))(e));
    let Some(limit) = options.limit else { return Ok(rows.boxed()) };
    let limited = rows.scan(limit, |left, batch| {
        let taken = match batch {
            _ if *left == 0 => None,
            Ok(batch) => {
                let batch = batch.slice(0, batch.num_rows().min(*left));
                *left -= batch.num_rows();
                Some(Ok(batch))
            }
            Err(e) => Some(Err(e)),
        };
        futures::future::ready(taken)
    });
    Ok(limited.boxed())
}

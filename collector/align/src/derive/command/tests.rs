//! Answers in every form, and damaged ones.

use super::*;
use crate::derive::OnFailure;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{
    Array, DictionaryArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, LargeListArray,
    ListArray, StringArray,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::IpcWriteOptions;
use arrow_ipc::{CompressionType, MetadataVersion};
use proptest::prelude::*;

fn command(output: CommandType) -> Command {
    Command {
        program: "p".to_owned(),
        args: Vec::new(),
        files: Vec::new(),
        program_sha256: None,
        version: "1".to_owned(),
        inputs: vec!["b".to_owned(), "a".to_owned()],
        output,
        timeout_ns: 1,
        output_bytes_max: 1,
        memory_bytes_max: 1,
        batch_rows_max: 1,
        on_failure: OnFailure::Null,
    }
}

fn stream(column: ArrayRef) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn said(output: CommandType, bytes: &[u8], rows: usize) -> String {
    answer(&command(output), bytes, rows).unwrap_err().to_string()
}

#[test]
fn a_request_holds_the_inputs_in_their_order() {
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef, true),
        ("z", Arc::new(Int64Array::from(vec![9, 9])), true),
        ("b", Arc::new(Float64Array::from(vec![0.5, 1.5])), true),
    ])
    .unwrap();
    let bytes = request(&command(CommandType::Bool), &rows).unwrap();
    let read: Vec<RecordBatch> =
        StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [rows.project(&[2, 0]).unwrap()]);
    assert_eq!(request(&command(CommandType::Bool), &rows).unwrap(), bytes);
    let missing = rows.project(&[0]).unwrap();
    assert!(request(&command(CommandType::Bool), &missing).is_err());
}

#[test]
fn answers_come_in_any_form_of_their_type() {
    let plain =
        ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0), Some(-0.0)]), None]);
    let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>(vec![
        Some(vec![Some(1.0), Some(0.0)]),
        None,
    ]);
    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        vec![Some(vec![Some(1.0), Some(0.0)]), None],
        2,
    );
    let wanted =
        ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0), Some(0.0)]), None]);
    for column in [Arc::new(plain) as ArrayRef, Arc::new(large), Arc::new(fixed)] {
        let output = CommandType::Float32List { length: Some(2) };
        let found = answer(&command(output), &stream(column), 2).unwrap();
        assert_eq!(found.data_type(), &output.arrow());
        assert_eq!(found.as_list::<i32>(), &wanted);
    }
    let odd: ArrayRef = Arc::new(Float64Array::from(vec![f64::from_bits(0xfff8_0000_0000_0001), -0.0]));
    let found = answer(&command(CommandType::Float64), &stream(odd), 2).unwrap();
    let bits: Vec<u64> = found.as_primitive::<Float64Type>().values().iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, [f64::NAN.to_bits(), 0]);
}

#[test]
fn several_batches_are_one_answer() {
    let batch = |values: Vec<i64>| {
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
    };
    let mut writer = StreamWriter::try_new(Vec::new(), batch(vec![]).schema_ref()).unwrap();
    for values in [vec![1, 2], vec![], vec![3]] {
        writer.write(&batch(values)).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    let found = answer(&command(CommandType::Int64), &bytes, 3).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(
        said(CommandType::Int64, &bytes, 4),
        "answer holds 3 rows for 4; write one value for every row"
    );
    let nothing =
        StreamWriter::try_new(Vec::new(), batch(vec![]).schema_ref()).unwrap().into_inner().unwrap();
    assert_eq!(answer(&command(CommandType::Int64), &nothing, 0).unwrap().len(), 0);
}

#[test]
fn what_is_not_as_declared_is_named() {
    let numbers: ArrayRef = Arc::new(Float32Array::from(vec![1.0]));
    assert_eq!(
        said(CommandType::Float64, &stream(Arc::clone(&numbers)), 1),
        "answer holds x Float32, where one column of float64 is declared"
    );
    let list: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(vec![Some(1.0)])]));
    assert_eq!(
        said(CommandType::Float64List { length: Some(3) }, &stream(Arc::clone(&list)), 1),
        "row 0 of the answer holds 1 items, where 3 are declared"
    );
    assert!(answer(&command(CommandType::Float64List { length: None }), &stream(list), 1).is_ok());
    let holed: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![None])]));
    assert!(
        said(CommandType::Float32List { length: None }, &stream(holed), 1).contains("a null among its items")
    );
    assert_eq!(
        said(CommandType::Text, b"hello, I am loading", 1),
        "answer is no Arrow IPC stream: a message does not begin with its mark (is something printed on standard output?)"
    );
    assert_eq!(said(CommandType::Text, b"", 1), "answer holds 0 rows for 1; write one value for every row");
    let texts: DictionaryArray<arrow_array::types::Int32Type> = vec!["a", "a"].into_iter().collect();
    assert_eq!(
        said(CommandType::Text, &stream(Arc::new(texts)), 2),
        "answer holds dictionaries or tensors; write plain record batches"
    );
}

#[test]
fn a_compressed_answer_is_refused_before_it_is_unpacked() {
    let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 100_000]));
    let batch = RecordBatch::try_from_iter([("x", zeros)]).unwrap();
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5).unwrap();
    let options = options.try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    assert_eq!(
        said(CommandType::Int64, &bytes, 100_000),
        "answer holds compressed buffers; write plain record batches"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_damaged_answer_is_an_error_or_an_answer(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(), is_cut in any::<bool>(),
    ) {
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(
            vec![Some(vec![Some(1.0), Some(2.0)]), None, Some(vec![Some(3.0), Some(4.0)])],
        ));
        let mut bytes = stream(list);
        for (place, byte) in hits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(found) = answer(&command(CommandType::Float32List { length: Some(2) }), &bytes, 3) {
            prop_assert_eq!(found.len(), 3);
        }
    }

    #[test]
    fn texts_come_back(texts in prop::collection::vec(proptest::option::of("\\PC{0,9}"), 0..20)) {
        let column: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let found = answer(&command(CommandType::Text), &stream(column), texts.len()).unwrap();
        let found: Vec<Option<String>> = found.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect();
        prop_assert_eq!(found, texts);
    }
}

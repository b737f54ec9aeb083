package train

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// An events file holds the scalars of a run for TensorBoard, one file for each start. Its records are TFRecords: the
// length as 8 bytes, the masked CRC-32C of those, the event, the masked CRC-32C of the event; an event is a protocol
// buffer (tensorflow/core/util/event.proto and framework/summary.proto have its fields).
type events struct{ file *os.File }

// The fields of the messages.
const (
	eventTime, eventStep, eventVersion, eventSummary, eventSession protowire.Number = 1, 2, 3, 5, 7
	summaryValue                                                   protowire.Number = 1
	valueTag, valueSimple                                          protowire.Number = 1, 2
	sessionStatus                                                  protowire.Number = 1
	sessionStart                                                                    = 1
)

// openEvents begins a file in a run directory that goes on after a step. A reader drops what earlier files say of later
// steps.
func openEvents(run string, step int, now time.Time) (*events, error) {
	f, err := os.OpenFile(filepath.Join(run, fmt.Sprintf("events.out.tfevents.%010d.headroom.%d", now.Unix(), step)),
		os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	e := &events{f}
	version := protowire.AppendString(protowire.AppendTag(header(now, 0), eventVersion, protowire.BytesType),
		"brain.Event:2")
	start := protowire.AppendVarint(protowire.AppendTag(nil, sessionStatus, protowire.VarintType), sessionStart)
	err = e.record(version)
	if err == nil {
		err = e.record(message(header(now, step+1), eventSession, start))
	}
	return e, err
}

// A scalar is one named figure of a step.
type scalar struct {
	tag   string
	value float64
}

// scalars are the figures of a step that event files have.
func (l Line) scalars() []scalar {
	all := []scalar{{"loss", l.Loss}, {"lr", l.LR}, {"grad_norm", l.GradNorm}, {"tokens_per_second", l.TokensSec},
		{"memory_bytes", float64(l.Memory)}}
	for _, r := range l.Eval {
		all = append(all, scalar{"eval/" + r.Set + "/nll", r.NLL}, scalar{"eval/" + r.Set + "/perplexity", r.Perplexity})
	}
	return all
}

func (e *events) write(step int, all []scalar, now time.Time) error {
	var summary []byte
	for _, s := range all {
		value := protowire.AppendString(protowire.AppendTag(nil, valueTag, protowire.BytesType), s.tag)
		value = protowire.AppendFixed32(protowire.AppendTag(value, valueSimple, protowire.Fixed32Type),
			math.Float32bits(float32(s.value)))
		summary = message(summary, summaryValue, value)
	}
	return e.record(message(header(now, step), eventSummary, summary))
}

func (e *events) close() error { return e.file.Close() }

// header begins an event.
func header(now time.Time, step int) []byte {
	b := protowire.AppendFixed64(protowire.AppendTag(nil, eventTime, protowire.Fixed64Type),
		math.Float64bits(float64(now.UnixMicro())/1e6))
	return protowire.AppendVarint(protowire.AppendTag(b, eventStep, protowire.VarintType), uint64(step))
}

func message(b []byte, field protowire.Number, inner []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), inner)
}

// record appends a TFRecord in one write.
func (e *events) record(data []byte) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	b = append(b, data...)
	b = binary.LittleEndian.AppendUint32(b, masked(data))
	_, err := e.file.Write(b)
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is a CRC-32C, rotated and offset as TFRecord wants it, because checksums of data that contain checksums are
// weak.
func masked(b []byte) uint32 {
	crc := crc32.Checksum(b, castagnoli)
	return crc>>15 | crc<<17 + 0xa282ead8
}

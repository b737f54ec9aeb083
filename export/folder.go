package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"headroom/internal/safetensors"
)

// A folder is a checkpoint directory of another program. Nothing outside it is read, not by a link either.
type folder struct {
	dir    string
	root   *os.Root
	opened []*os.File
	where  map[string]*safetensors.File // by tensor
}

// maxText is the largest JSON file that is read.
const maxText = 64 << 20

func openFolder(dir string) (f *folder, err error) {
	f = &folder{dir: dir, where: map[string]*safetensors.File{}}
	if f.root, err = os.OpenRoot(dir); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return f, nil
}

// Close closes every file of the folder.
func (f *folder) Close() error {
	var err error
	for _, file := range f.opened {
		err = errors.Join(err, file.Close())
	}
	return errors.Join(err, f.root.Close())
}

// open opens a file of the folder by its name.
func (f *folder) open(name string) (*os.File, int64, error) {
	file, err := f.root.Open(name)
	if err != nil {
		if info, e := f.root.Lstat(name); e == nil && info.Mode()&os.ModeSymlink != 0 {
			return nil, 0, fmt.Errorf("export: %s: %s is a link that leaves the directory: copy it with cp -rL first",
				f.dir, name)
		}
		return nil, 0, fmt.Errorf("export: %s: %w", f.dir, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		file.Close()
		return nil, 0, fmt.Errorf("export: %s: %s: %w", f.dir, name, err)
	}
	return file, info.Size(), nil
}

// read is the text of a file.
func (f *folder) read(name string) ([]byte, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > maxText {
		return nil, fmt.Errorf("export: %s: %s has %d bytes, more than %d", f.dir, name, size, maxText)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxText))
	if err != nil {
		return nil, fmt.Errorf("export: %s: %w", f.dir, err)
	}
	return text, nil
}

func (f *folder) json(name string, v any) error {
	text, err := f.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("export: %s: %s: %w", f.dir, name, err)
	}
	return nil
}

// weights opens the files of weights: the one, or those of the index.
func (f *folder) weights() error {
	names := []string{"model.safetensors"}
	if _, err := f.root.Lstat(indexFile); err == nil {
		var x index
		if err := f.json(indexFile, &x); err != nil {
			return err
		}
		names = nil
		for tensor, name := range x.Where {
			if path.Base(name) != name || !strings.HasSuffix(name, ".safetensors") {
				return fmt.Errorf("export: %s: the index puts tensor %s in %q, which is no .safetensors file of the directory",
					f.dir, tensor, name)
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	for _, name := range names {
		if err := f.add(name); err != nil {
			return err
		}
	}
	return nil
}

// add opens one file of weights. Two files must not have the same tensor.
func (f *folder) add(name string) error {
	file, size, err := f.open(name)
	if err != nil {
		if _, bin := f.root.Lstat("pytorch_model.bin"); name == "model.safetensors" && bin == nil {
			return fmt.Errorf(
				"export: %s has its weights in pytorch_model.bin, a pickle, which is a program: only safetensors are read", f.dir)
		}
		return err
	}
	f.opened = append(f.opened, file)
	s, err := safetensors.Read(name, file, size)
	if err != nil {
		return fmt.Errorf("export: %s: %w", f.dir, err)
	}
	for tensor := range s.Tensors {
		if f.where[tensor] != nil {
			return fmt.Errorf("export: %s: tensor %s is in two files", f.dir, tensor)
		}
		f.where[tensor] = s
	}
	return nil
}

// check compares the tensors of the folder with those of a model.
func (f *folder) check(want []tensor) error {
	known := map[string]bool{}
	for _, t := range want {
		known[t.name] = true
		s := f.where[t.name]
		if s == nil {
			return fmt.Errorf("export: %s has no tensor %s", f.dir, t.name)
		}
		if info := s.Tensors[t.name]; !slices.Equal(info.Shape, t.shape) {
			return fmt.Errorf("export: %s: tensor %s is %v, its configuration makes it %v", f.dir, t.name, info.Shape, t.shape)
		}
	}
	var more []string
	for name := range f.where {
		tiedHead := name == "lm_head.weight"
		if !known[name] && !tiedHead && !strings.HasSuffix(name, ".rotary_emb.inv_freq") {
			more = append(more, name)
		}
	}
	if len(more) > 0 {
		slices.Sort(more)
		return fmt.Errorf("export: %s has %d tensors that the models here lack: %s", f.dir, len(more),
			strings.Join(more[:min(3, len(more))], ", "))
	}
	return nil
}

// values reads each parameter of ours from the foreign tensors.
func (f *folder) values(tensors []tensor) func(name string) ([]float32, error) {
	type place struct {
		tensor tensor
		part   part
		at     int
	}
	places := map[string]place{}
	for _, t := range tensors {
		at := 0
		for _, p := range t.parts {
			places[p.param.Name] = place{t, p, at}
			at += p.param.Size()
		}
	}
	return func(name string) ([]float32, error) {
		p, ok := places[name]
		if !ok {
			return nil, fmt.Errorf("export: no tensor holds %s", name)
		}
		x, _, err := f.where[p.tensor.name].Float32(p.tensor.name)
		if err != nil {
			return nil, fmt.Errorf("export: %s: %w", f.dir, err)
		}
		ours := make([]float32, p.part.param.Size())
		p.part.unpack(ours, x[p.at:][:len(ours)])
		if p.tensor.less != 0 {
			for i := range ours {
				ours[i] += p.tensor.less
			}
		}
		return ours, nil
	}
}

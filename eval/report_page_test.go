package eval

import (
	"fmt"
	"image"
	paint "image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestReportInChromium takes a picture of the report in a headless browser, light and dark: the ground is the theme's
// and every arm's colour is there. Without Chromium it is skipped.
func TestReportInChromium(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium")
	}
	dir := t.TempDir()
	if err := sample(t).Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, theme := range []struct {
		scheme string // Blink's number of it
		ground paint.RGBA
		arms   [3]paint.RGBA
	}{
		{"1", paint.RGBA{255, 255, 255, 255}, [3]paint.RGBA{{0x2a, 0x6f, 0xdb, 255}, {0xd1, 0x57, 0x0f, 255},
			{0x1b, 0x8a, 0x5a, 255}}},
		{"0", paint.RGBA{0x14, 0x17, 0x1b, 255}, [3]paint.RGBA{{0x6e, 0xa8, 0xff, 255}, {0xff, 0x9a, 0x5c, 255},
			{0x4f, 0xce, 0x96, 255}}},
	} {
		path := filepath.Join(dir, theme.scheme+".png")
		out, err := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu",
			"--user-data-dir="+t.TempDir(), "--window-size=1000,2400",
			"--blink-settings=preferredColorScheme="+theme.scheme, "--screenshot="+path,
			"file://"+filepath.Join(dir, "report.html")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		picture := shot(t, path)
		if got := at(picture, 2, 2); got != theme.ground {
			t.Errorf("scheme %s: the ground is %v, not %v", theme.scheme, got, theme.ground)
		}
		seen := map[paint.RGBA]int{}
		for y := range picture.Bounds().Dy() {
			for x := range picture.Bounds().Dx() {
				seen[at(picture, x, y)]++
			}
		}
		for i, c := range theme.arms {
			if seen[c] < 500 { // bars and marks; lines are thin and blurred
				t.Errorf("scheme %s: arm %d has %s", theme.scheme, i, fmt.Sprint(seen[c], " points of its colour"))
			}
		}
	}
}

func shot(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return picture
}

func at(picture image.Image, x, y int) paint.RGBA {
	return paint.RGBAModel.Convert(picture.At(x, y)).(paint.RGBA)
}

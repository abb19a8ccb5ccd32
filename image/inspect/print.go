package inspect

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes the image as text for people. (encoding/json writes it for
// programs.)
func (img *Image) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "disk\t%s\t%s\n\n", img.DiskUUID, bytesText(img.Size))
	fmt.Fprintf(w, "PARTITION\tSTART\tSIZE\tUUID\n")
	for _, p := range img.Partitions {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Name, bytesText(p.Start), bytesText(p.Size), p.UUID)
	}
	for _, s := range img.Slots {
		if s.Empty {
			fmt.Fprintf(w, "\nslot %s\tempty\n", s.Name)
			continue
		}
		fmt.Fprintf(w, "\nslot %s\troot hash %s\n\troot of %s, started by %s\n", s.Name, s.RootHash, bytesText(s.DataSize), orNone(s.UKIs))
	}
	fmt.Fprintln(w)
	printBIOS(w, img.BIOS)
	for _, l := range img.Loaders {
		fmt.Fprintf(w, "\nboot UEFI\t%s\n\t%s\n", l.Path, signatureText(l.Signature))
	}
	if len(img.Enrol) > 0 {
		fmt.Fprintf(w, "\nkeys to enrol\t%s\n", strings.Join(img.Enrol, ", "))
	}
	for _, u := range img.UKIs {
		printUKI(w, u)
	}
	for _, p := range img.Problems {
		fmt.Fprintf(w, "\nPROBLEM\t%s\n", p)
	}
	return w.Flush()
}

func printBIOS(w io.Writer, b *BIOS) {
	if b == nil {
		fmt.Fprintf(w, "boot BIOS\tnothing\n")
		return
	}
	var entries []string
	for _, e := range b.Entries {
		text := e.Version + " good"
		if e.TriesLeft != nil {
			text = fmt.Sprintf("%s tries left %d", e.Version, *e.TriesLeft)
		}
		entries = append(entries, text)
	}
	fmt.Fprintf(w, "boot BIOS\tGRUB at byte %d, entries %s (generation %d)\n", b.Core, orNone(entries), b.Generation)
}

func printUKI(w io.Writer, u UKI) {
	fmt.Fprintf(w, "\nUKI\t%s, %s\n", u.Path, bytesText(u.Size))
	fmt.Fprintf(w, "\t%s\n", signatureText(u.Signature))
	if u.PCR11 != "" {
		fmt.Fprintf(w, "\tPCR 11 %s, %s\n", u.PCR11, map[bool]string{true: "signed", false: "not signed"}[u.PCR11Signed])
	}
	fmt.Fprintf(w, "\tversion %s, kernel %s\n", u.Version, u.Kernel)
	if u.TriesLeft != nil {
		fmt.Fprintf(w, "\ttries left %d", *u.TriesLeft)
		if u.TriesDone != nil {
			fmt.Fprintf(w, ", done %d", *u.TriesDone)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\tcommand line %s\n", u.Cmdline)
	for _, s := range u.Sections {
		fmt.Fprintf(w, "\tsection %s\t%s\n", s.Name, bytesText(s.Size))
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// bytesText is a number of bytes with the largest unit that divides it well.
func bytesText(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

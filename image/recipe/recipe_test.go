package recipe

import "testing"

func TestDefaultRecipeIsValid(t *testing.T) {
	if _, err := ReadFile(""); err != nil {
		t.Fatal(err)
	}
}

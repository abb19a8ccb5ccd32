package ami

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeAWS is EBS direct (REST, JSON) and EC2 (query, XML) as their API
// references have them, for one account. It refuses what they refuse.
type fakeAWS struct {
	t  *testing.T
	mu sync.Mutex
	// failures are how often a request of a kind fails first: "put" with 500,
	// "throttle" with a throttling error.
	failures  map[string]int
	cutAfter  int // blocks after which every one is refused; 0 never
	snapshots map[string]*fakeSnapshot
	images    map[string]map[string]string // form of RegisterImage by image ID
	polls     int
	puts      int
}

type fakeSnapshot struct {
	gib      int64
	blocks   map[int][sha256.Size]byte
	complete bool
}

func newAWS(t *testing.T) *fakeAWS {
	return &fakeAWS{t: t, failures: map[string]int{}, snapshots: map[string]*fakeSnapshot{}, images: map[string]map[string]string{}}
}

func (a *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") {
		refuse(w, http.StatusForbidden, "AccessDeniedException", "not signed")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/snapshots":
		a.start(w, body)
	case r.Method == http.MethodPut && len(parts) == 4 && parts[2] == "blocks":
		a.put(w, r, parts[1], parts[3], body)
	case r.Method == http.MethodPost && len(parts) == 3 && parts[1] == "completion":
		a.completeSnapshot(w, r, parts[2])
	case r.Method == http.MethodPost && r.URL.Path == "/":
		a.query(w, r, body)
	default:
		refuse(w, http.StatusNotFound, "UnknownOperationException", r.Method+" "+r.URL.Path)
	}
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"Message":%q}`, message)
}

func (a *fakeAWS) fails(kind string) bool {
	a.failures[kind]--
	return a.failures[kind] >= 0
}

func (a *fakeAWS) start(w http.ResponseWriter, body []byte) {
	var in struct {
		VolumeSize  int64
		Timeout     int
		ClientToken string
	}
	if err := json.Unmarshal(body, &in); err != nil || in.VolumeSize < 1 || in.Timeout < 10 || in.Timeout > 4320 || in.ClientToken == "" {
		refuse(w, http.StatusBadRequest, "ValidationException", string(body))
		return
	}
	id := fmt.Sprintf("snap-%017d", len(a.snapshots)+1)
	a.snapshots[id] = &fakeSnapshot{gib: in.VolumeSize, blocks: map[int][sha256.Size]byte{}}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"SnapshotId":%q,"BlockSize":524288,"VolumeSize":%d,"Status":"pending","OwnerId":"123456789012"}`, id, in.VolumeSize)
}

func (a *fakeAWS) put(w http.ResponseWriter, r *http.Request, id, index string, body []byte) {
	s, n := a.snapshots[id], -1
	if i, err := strconv.Atoi(index); err == nil {
		n = i
	}
	sum := sha256.Sum256(body)
	switch {
	case s == nil:
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", id)
	case s.complete || n < 0 || int64(n) >= s.gib*2048 || len(body) != 524288 || r.Header.Get("X-Amz-Data-Length") != "524288" ||
		r.Header.Get("X-Amz-Checksum-Algorithm") != "SHA256" || r.Header.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(sum[:]):
		refuse(w, http.StatusBadRequest, "ValidationException", "block "+index)
	case a.fails("put"):
		refuse(w, http.StatusInternalServerError, "InternalServerException", "try again")
	case a.fails("throttle"):
		refuse(w, http.StatusBadRequest, "RequestThrottledException", "slower")
	case a.cutAfter > 0 && a.puts >= a.cutAfter:
		refuse(w, http.StatusForbidden, "AccessDeniedException", "the credentials ran out")
	default:
		s.blocks[n] = sum
		a.puts++
		w.Header().Set("X-Amz-Checksum", r.Header.Get("X-Amz-Checksum"))
		w.Header().Set("X-Amz-Checksum-Algorithm", "SHA256")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "{}")
	}
}

func (a *fakeAWS) completeSnapshot(w http.ResponseWriter, r *http.Request, id string) {
	s := a.snapshots[id]
	if s == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", id)
		return
	}
	var indexes []int
	for i := range s.blocks {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	h := sha256.New()
	for _, i := range indexes {
		sum := s.blocks[i]
		h.Write(sum[:])
	}
	want := map[string]string{
		"X-Amz-Changedblockscount": strconv.Itoa(len(indexes)), "X-Amz-Checksum": base64.StdEncoding.EncodeToString(h.Sum(nil)),
		"X-Amz-Checksum-Algorithm": "SHA256", "X-Amz-Checksum-Aggregation-Method": "LINEAR",
	}
	for key, value := range want {
		if got := r.Header.Get(key); got != value {
			refuse(w, http.StatusBadRequest, "ValidationException", fmt.Sprintf("%s is %q, want %q", key, got, value))
			return
		}
	}
	s.complete = true
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, `{"Status":"pending"}`)
}

// query is EC2.
func (a *fakeAWS) query(w http.ResponseWriter, r *http.Request, body []byte) {
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	if err := r.ParseForm(); err != nil {
		a.t.Error(err)
	}
	form := map[string]string{}
	for key := range r.PostForm {
		form[key] = r.PostForm.Get(key)
	}
	const namespace = `xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"`
	switch form["Action"] {
	case "DescribeImages":
		items := ""
		for id, i := range a.images {
			if i["Name"] == form["Filter.1.Value.1"] && form["Filter.1.Name"] == "name" && form["Owner.1"] == "self" {
				items += "<item><imageId>" + id + "</imageId><blockDeviceMapping><item><ebs><snapshotId>" + i["BlockDeviceMapping.1.Ebs.SnapshotId"] + "</snapshotId></ebs></item></blockDeviceMapping></item>"
			}
		}
		fmt.Fprintf(w, "<DescribeImagesResponse %s><imagesSet>%s</imagesSet></DescribeImagesResponse>", namespace, items)
	case "DescribeSnapshots":
		s, status := a.snapshots[form["SnapshotId.1"]], "pending"
		if a.polls++; s != nil && s.complete && a.polls > 2 {
			status = "completed"
		}
		fmt.Fprintf(w, "<DescribeSnapshotsResponse %s><snapshotSet><item><snapshotId>%s</snapshotId><status>%s</status></item></snapshotSet></DescribeSnapshotsResponse>", namespace, form["SnapshotId.1"], status)
	case "RegisterImage":
		s := a.snapshots[form["BlockDeviceMapping.1.Ebs.SnapshotId"]]
		if s == nil || !s.complete {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, "<Response><Errors><Error><Code>InvalidSnapshot.NotFound</Code><Message>no</Message></Error></Errors></Response>")
			return
		}
		id := fmt.Sprintf("ami-%017d", len(a.images)+1)
		a.images[id] = form
		fmt.Fprintf(w, "<RegisterImageResponse %s><imageId>%s</imageId></RegisterImageResponse>", namespace, id)
	default:
		a.t.Errorf("action %q", form["Action"])
	}
}

package cloudconfig

// Etcd is the coreos.etcd section: etcd 0.4's options, and heal, join,
// join_token, remove_delay and tls, which are Coracle's.
type Etcd struct {
	Origin                   Origin  `yaml:"-"`
	Addr                     string  `yaml:"addr" env:"ETCD_ADDR"`
	AdvertiseClientURLs      string  `yaml:"advertise_client_urls" env:"ETCD_ADVERTISE_CLIENT_URLS" deprecated:"etcd2 options no longer work for etcd"`
	BindAddr                 string  `yaml:"bind_addr" env:"ETCD_BIND_ADDR"`
	CAFile                   string  `yaml:"ca_file" env:"ETCD_CA_FILE"`
	CertFile                 string  `yaml:"cert_file" env:"ETCD_CERT_FILE"`
	ClusterActiveSize        int     `yaml:"cluster_active_size" env:"ETCD_CLUSTER_ACTIVE_SIZE"`
	ClusterRemoveDelay       float64 `yaml:"cluster_remove_delay" env:"ETCD_CLUSTER_REMOVE_DELAY"`
	ClusterSyncInterval      float64 `yaml:"cluster_sync_interval" env:"ETCD_CLUSTER_SYNC_INTERVAL"`
	Cors                     string  `yaml:"cors" env:"ETCD_CORS"`
	DataDir                  string  `yaml:"data_dir" env:"ETCD_DATA_DIR"`
	Discovery                string  `yaml:"discovery" env:"ETCD_DISCOVERY"`
	DiscoveryFallback        string  `yaml:"discovery_fallback" env:"ETCD_DISCOVERY_FALLBACK" deprecated:"etcd2 options no longer work for etcd"`
	DiscoverySRV             string  `yaml:"discovery_srv" env:"ETCD_DISCOVERY_SRV" deprecated:"etcd2 options no longer work for etcd"`
	DiscoveryProxy           string  `yaml:"discovery_proxy" env:"ETCD_DISCOVERY_PROXY" deprecated:"etcd2 options no longer work for etcd"`
	ElectionTimeout          int     `yaml:"election_timeout" env:"ETCD_ELECTION_TIMEOUT" deprecated:"etcd2 options no longer work for etcd"`
	ForceNewCluster          bool    `yaml:"force_new_cluster" env:"ETCD_FORCE_NEW_CLUSTER" deprecated:"etcd2 options no longer work for etcd"`
	GraphiteHost             string  `yaml:"graphite_host" env:"ETCD_GRAPHITE_HOST"`
	Heal                     string  `yaml:"heal" env:"ETCD_HEAL" valid:"^(on|off)$"`
	HeartbeatInterval        int     `yaml:"heartbeat_interval" env:"ETCD_HEARTBEAT_INTERVAL" deprecated:"etcd2 options no longer work for etcd"`
	HTTPReadTimeout          float64 `yaml:"http_read_timeout" env:"ETCD_HTTP_READ_TIMEOUT"`
	HTTPWriteTimeout         float64 `yaml:"http_write_timeout" env:"ETCD_HTTP_WRITE_TIMEOUT"`
	InitialAdvertisePeerURLs string  `yaml:"initial_advertise_peer_urls" env:"ETCD_INITIAL_ADVERTISE_PEER_URLS" deprecated:"etcd2 options no longer work for etcd"`
	InitialCluster           string  `yaml:"initial_cluster" env:"ETCD_INITIAL_CLUSTER" deprecated:"etcd2 options no longer work for etcd"`
	InitialClusterState      string  `yaml:"initial_cluster_state" env:"ETCD_INITIAL_CLUSTER_STATE" deprecated:"etcd2 options no longer work for etcd"`
	InitialClusterToken      string  `yaml:"initial_cluster_token" env:"ETCD_INITIAL_CLUSTER_TOKEN" deprecated:"etcd2 options no longer work for etcd"`
	Join                     string  `yaml:"join" env:"ETCD_JOIN"`
	JoinToken                string  `yaml:"join_token" env:"ETCD_JOIN_TOKEN"`
	KeyFile                  string  `yaml:"key_file" env:"ETCD_KEY_FILE"`
	ListenClientURLs         string  `yaml:"listen_client_urls" env:"ETCD_LISTEN_CLIENT_URLS" deprecated:"etcd2 options no longer work for etcd"`
	ListenPeerURLs           string  `yaml:"listen_peer_urls" env:"ETCD_LISTEN_PEER_URLS" deprecated:"etcd2 options no longer work for etcd"`
	MaxResultBuffer          int     `yaml:"max_result_buffer" env:"ETCD_MAX_RESULT_BUFFER"`
	MaxRetryAttempts         int     `yaml:"max_retry_attempts" env:"ETCD_MAX_RETRY_ATTEMPTS"`
	MaxSnapshots             int     `yaml:"max_snapshots" env:"ETCD_MAX_SNAPSHOTS" deprecated:"etcd2 options no longer work for etcd"`
	MaxWALs                  int     `yaml:"max_wals" env:"ETCD_MAX_WALS" deprecated:"etcd2 options no longer work for etcd"`
	Name                     string  `yaml:"name" env:"ETCD_NAME"`
	PeerAddr                 string  `yaml:"peer_addr" env:"ETCD_PEER_ADDR"`
	PeerBindAddr             string  `yaml:"peer_bind_addr" env:"ETCD_PEER_BIND_ADDR"`
	PeerCAFile               string  `yaml:"peer_ca_file" env:"ETCD_PEER_CA_FILE"`
	PeerCertFile             string  `yaml:"peer_cert_file" env:"ETCD_PEER_CERT_FILE"`
	PeerElectionTimeout      int     `yaml:"peer_election_timeout" env:"ETCD_PEER_ELECTION_TIMEOUT"`
	PeerHeartbeatInterval    int     `yaml:"peer_heartbeat_interval" env:"ETCD_PEER_HEARTBEAT_INTERVAL"`
	PeerKeyFile              string  `yaml:"peer_key_file" env:"ETCD_PEER_KEY_FILE"`
	Peers                    string  `yaml:"peers" env:"ETCD_PEERS"`
	PeersFile                string  `yaml:"peers_file" env:"ETCD_PEERS_FILE"`
	Proxy                    string  `yaml:"proxy" env:"ETCD_PROXY" deprecated:"etcd2 options no longer work for etcd"`
	RemoveDelay              string  `yaml:"remove_delay" env:"ETCD_REMOVE_DELAY"`
	RetryInterval            float64 `yaml:"retry_interval" env:"ETCD_RETRY_INTERVAL"`
	Snapshot                 bool    `yaml:"snapshot" env:"ETCD_SNAPSHOT"`
	SnapshotCount            int     `yaml:"snapshot_count" env:"ETCD_SNAPSHOTCOUNT"`
	TLS                      string  `yaml:"tls" env:"ETCD_TLS" valid:"^(auto|off)$"`
	Trace                    string  `yaml:"trace" env:"ETCD_TRACE"`
	Verbose                  bool    `yaml:"verbose" env:"ETCD_VERBOSE"`
	VeryVerbose              bool    `yaml:"very_verbose" env:"ETCD_VERY_VERBOSE"`
	VeryVeryVerbose          bool    `yaml:"very_very_verbose" env:"ETCD_VERY_VERY_VERBOSE"`
}

// Etcd2 is the coreos.etcd2 section: etcd 2's options, and heal, join,
// join_token and remove_delay, which are Coracle's.
type Etcd2 struct {
	Origin                   Origin `yaml:"-"`
	AdvertiseClientURLs      string `yaml:"advertise_client_urls" env:"ETCD_ADVERTISE_CLIENT_URLS"`
	CAFile                   string `yaml:"ca_file" env:"ETCD_CA_FILE" deprecated:"ca_file obsoleted by trusted_ca_file and client_cert_auth"`
	CertFile                 string `yaml:"cert_file" env:"ETCD_CERT_FILE"`
	ClientCertAuth           bool   `yaml:"client_cert_auth" env:"ETCD_CLIENT_CERT_AUTH"`
	Cors                     string `yaml:"cors" env:"ETCD_CORS"`
	DataDir                  string `yaml:"data_dir" env:"ETCD_DATA_DIR"`
	Debug                    bool   `yaml:"debug" env:"ETCD_DEBUG"`
	Discovery                string `yaml:"discovery" env:"ETCD_DISCOVERY"`
	DiscoveryFallback        string `yaml:"discovery_fallback" env:"ETCD_DISCOVERY_FALLBACK"`
	DiscoverySRV             string `yaml:"discovery_srv" env:"ETCD_DISCOVERY_SRV"`
	DiscoveryProxy           string `yaml:"discovery_proxy" env:"ETCD_DISCOVERY_PROXY"`
	ElectionTimeout          int    `yaml:"election_timeout" env:"ETCD_ELECTION_TIMEOUT"`
	EnablePProf              bool   `yaml:"enable_pprof" env:"ETCD_ENABLE_PPROF"`
	ForceNewCluster          bool   `yaml:"force_new_cluster" env:"ETCD_FORCE_NEW_CLUSTER"`
	Heal                     string `yaml:"heal" env:"ETCD_HEAL" valid:"^(on|off)$"`
	HeartbeatInterval        int    `yaml:"heartbeat_interval" env:"ETCD_HEARTBEAT_INTERVAL"`
	InitialAdvertisePeerURLs string `yaml:"initial_advertise_peer_urls" env:"ETCD_INITIAL_ADVERTISE_PEER_URLS"`
	InitialCluster           string `yaml:"initial_cluster" env:"ETCD_INITIAL_CLUSTER"`
	InitialClusterState      string `yaml:"initial_cluster_state" env:"ETCD_INITIAL_CLUSTER_STATE"`
	InitialClusterToken      string `yaml:"initial_cluster_token" env:"ETCD_INITIAL_CLUSTER_TOKEN"`
	Join                     string `yaml:"join" env:"ETCD_JOIN"`
	JoinToken                string `yaml:"join_token" env:"ETCD_JOIN_TOKEN"`
	KeyFile                  string `yaml:"key_file" env:"ETCD_KEY_FILE"`
	ListenClientURLs         string `yaml:"listen_client_urls" env:"ETCD_LISTEN_CLIENT_URLS"`
	ListenPeerURLs           string `yaml:"listen_peer_urls" env:"ETCD_LISTEN_PEER_URLS"`
	LogPackageLevels         string `yaml:"log_package_levels" env:"ETCD_LOG_PACKAGE_LEVELS"`
	MaxSnapshots             int    `yaml:"max_snapshots" env:"ETCD_MAX_SNAPSHOTS"`
	MaxWALs                  int    `yaml:"max_wals" env:"ETCD_MAX_WALS"`
	Name                     string `yaml:"name" env:"ETCD_NAME"`
	PeerCAFile               string `yaml:"peer_ca_file" env:"ETCD_PEER_CA_FILE" deprecated:"peer_ca_file obsoleted peer_trusted_ca_file and peer_client_cert_auth"`
	PeerCertFile             string `yaml:"peer_cert_file" env:"ETCD_PEER_CERT_FILE"`
	PeerKeyFile              string `yaml:"peer_key_file" env:"ETCD_PEER_KEY_FILE"`
	PeerClientCertAuth       bool   `yaml:"peer_client_cert_auth" env:"ETCD_PEER_CLIENT_CERT_AUTH"`
	PeerTrustedCAFile        string `yaml:"peer_trusted_ca_file" env:"ETCD_PEER_TRUSTED_CA_FILE"`
	Proxy                    string `yaml:"proxy" env:"ETCD_PROXY" valid:"^(on|off|readonly)$"`
	ProxyDialTimeout         int    `yaml:"proxy_dial_timeout" env:"ETCD_PROXY_DIAL_TIMEOUT"`
	ProxyFailureWait         int    `yaml:"proxy_failure_wait" env:"ETCD_PROXY_FAILURE_WAIT"`
	ProxyReadTimeout         int    `yaml:"proxy_read_timeout" env:"ETCD_PROXY_READ_TIMEOUT"`
	ProxyRefreshInterval     int    `yaml:"proxy_refresh_interval" env:"ETCD_PROXY_REFRESH_INTERVAL"`
	ProxyWriteTimeout        int    `yaml:"proxy_write_timeout" env:"ETCD_PROXY_WRITE_TIMEOUT"`
	RemoveDelay              string `yaml:"remove_delay" env:"ETCD_REMOVE_DELAY"`
	SnapshotCount            int    `yaml:"snapshot_count" env:"ETCD_SNAPSHOT_COUNT"`
	StrictReconfigCheck      bool   `yaml:"strict_reconfig_check" env:"ETCD_STRICT_RECONFIG_CHECK"`
	TrustedCAFile            string `yaml:"trusted_ca_file" env:"ETCD_TRUSTED_CA_FILE"`
	TLS                      string `yaml:"tls" env:"ETCD_TLS" valid:"^(auto|off)$"` // Coracle's own, as the next four
	TLSCAFile                string `yaml:"tls_ca_file" env:"ETCD_TLS_CA_FILE"`
	BackupInterval           string `yaml:"backup_interval" env:"ETCD_BACKUP_INTERVAL"`
	BackupKeep               int    `yaml:"backup_keep" env:"ETCD_BACKUP_KEEP"`
	BackupDir                string `yaml:"backup_dir" env:"ETCD_BACKUP_DIR"`
	WALDir                   string `yaml:"wal_dir" env:"ETCD_WAL_DIR"`
}

// Fleet is the coreos.fleet section: fleet's options, and those of TLS for the
// API over TCP, which are Coracle's.
type Fleet struct {
	Origin                  Origin  `yaml:"-"`
	AgentTTL                string  `yaml:"agent_ttl" env:"FLEET_AGENT_TTL"`
	AuthorizedKeysFile      string  `yaml:"authorized_keys_file" env:"FLEET_AUTHORIZED_KEYS_FILE"`
	DisableEngine           bool    `yaml:"disable_engine" env:"FLEET_DISABLE_ENGINE"`
	EngineReconcileInterval float64 `yaml:"engine_reconcile_interval" env:"FLEET_ENGINE_RECONCILE_INTERVAL"`
	EtcdCAFile              string  `yaml:"etcd_cafile" env:"FLEET_ETCD_CAFILE"`
	EtcdCertfile            string  `yaml:"etcd_certfile" env:"FLEET_ETCD_CERTFILE"`
	EtcdKeyfile             string  `yaml:"etcd_keyfile" env:"FLEET_ETCD_KEYFILE"`
	EtcdKeyPrefix           string  `yaml:"etcd_key_prefix" env:"FLEET_ETCD_KEY_PREFIX"`
	EtcdRequestTimeout      float64 `yaml:"etcd_request_timeout" env:"FLEET_ETCD_REQUEST_TIMEOUT"`
	EtcdServers             string  `yaml:"etcd_servers" env:"FLEET_ETCD_SERVERS"`
	EtcdUsername            string  `yaml:"etcd_username" env:"FLEET_ETCD_USERNAME"`
	EtcdPassword            string  `yaml:"etcd_password" env:"FLEET_ETCD_PASSWORD"`
	Metadata                string  `yaml:"metadata" env:"FLEET_METADATA"`
	PublicIP                string  `yaml:"public_ip" env:"FLEET_PUBLIC_IP"`
	TLSCAFile               string  `yaml:"tls_cafile" env:"FLEET_TLS_CAFILE"`
	TLSCertfile             string  `yaml:"tls_certfile" env:"FLEET_TLS_CERTFILE"`
	TLSKeyfile              string  `yaml:"tls_keyfile" env:"FLEET_TLS_KEYFILE"`
	TokenLimit              int     `yaml:"token_limit" env:"FLEET_TOKEN_LIMIT"`
	Verbosity               int     `yaml:"verbosity" env:"FLEET_VERBOSITY"`
	VerifyUnits             bool    `yaml:"verify_units" env:"FLEET_VERIFY_UNITS"`
}

// Flannel is the coreos.flannel section; network is Coracle's: the cluster's
// network, in JSON, if nobody has written one.
type Flannel struct {
	Origin        Origin `yaml:"-"`
	EtcdEndpoints string `yaml:"etcd_endpoints" env:"FLANNELD_ETCD_ENDPOINTS"`
	EtcdCAFile    string `yaml:"etcd_cafile" env:"FLANNELD_ETCD_CAFILE"`
	EtcdCertfile  string `yaml:"etcd_certfile" env:"FLANNELD_ETCD_CERTFILE"`
	EtcdKeyfile   string `yaml:"etcd_keyfile" env:"FLANNELD_ETCD_KEYFILE"`
	EtcdPrefix    string `yaml:"etcd_prefix" env:"FLANNELD_ETCD_PREFIX"`
	EtcdUsername  string `yaml:"etcd_username" env:"FLANNELD_ETCD_USERNAME"`
	EtcdPassword  string `yaml:"etcd_password" env:"FLANNELD_ETCD_PASSWORD"`
	IPMasq        string `yaml:"ip_masq" env:"FLANNELD_IP_MASQ"`
	SubnetFile    string `yaml:"subnet_file" env:"FLANNELD_SUBNET_FILE"`
	Interface     string `yaml:"interface" env:"FLANNELD_IFACE"`
	PublicIP      string `yaml:"public_ip" env:"FLANNELD_PUBLIC_IP"`
	Network       string `yaml:"network" env:"FLANNELD_DEFAULT_NETWORK"`
}

// Names is the coreos.names section, which is Coracle's.
type Names struct {
	Origin        Origin `yaml:"-"`
	Domain        string `yaml:"domain" env:"NAMES_DOMAIN"`
	Address       string `yaml:"address" env:"NAMES_ADDRESS"`
	Hostname      string `yaml:"hostname" env:"NAMES_HOSTNAME"`
	PublicIP      string `yaml:"public_ip" env:"NAMES_PUBLIC_IP"`
	EtcdEndpoints string `yaml:"etcd_endpoints" env:"NAMES_ETCD_ENDPOINTS"`
	EtcdCAFile    string `yaml:"etcd_cafile" env:"NAMES_ETCD_CAFILE"`
	EtcdCertfile  string `yaml:"etcd_certfile" env:"NAMES_ETCD_CERTFILE"`
	EtcdKeyfile   string `yaml:"etcd_keyfile" env:"NAMES_ETCD_KEYFILE"`
	EtcdUsername  string `yaml:"etcd_username" env:"NAMES_ETCD_USERNAME"`
	EtcdPassword  string `yaml:"etcd_password" env:"NAMES_ETCD_PASSWORD"`
}

// Locksmith is the coreos.locksmith section.
type Locksmith struct {
	Origin       Origin `yaml:"-"`
	Endpoint     string `yaml:"endpoint" env:"LOCKSMITHD_ENDPOINT"`
	EtcdCAFile   string `yaml:"etcd_cafile" env:"LOCKSMITHD_ETCD_CAFILE"`
	EtcdCertfile string `yaml:"etcd_certfile" env:"LOCKSMITHD_ETCD_CERTFILE"`
	EtcdKeyfile  string `yaml:"etcd_keyfile" env:"LOCKSMITHD_ETCD_KEYFILE"`
	EtcdUsername string `yaml:"etcd_username" env:"LOCKSMITHD_ETCD_USERNAME"`
	EtcdPassword string `yaml:"etcd_password" env:"LOCKSMITHD_ETCD_PASSWORD"`
	Group        string `yaml:"group" env:"LOCKSMITHD_GROUP"`
	WindowStart  string `yaml:"window_start" env:"REBOOT_WINDOW_START" valid:"^((?i:sun|mon|tue|wed|thu|fri|sat) )?0*([0-9]|1[0-9]|2[0-3]):0*([0-9]|[1-5][0-9])$"`
	WindowLength string `yaml:"window_length" env:"REBOOT_WINDOW_LENGTH" valid:"^[-+]?([0-9]*(\\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$"`
}

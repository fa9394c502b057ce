// The AWS SDK for Go v2 with its default chain. Commands on stdin, an answer in JSON on stdout for each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

func say(answer map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		os.Exit(1)
	}
}

func main() {
	say(map[string]any{"ready": "aws-sdk-go-v2 " + aws.SDKVersion})
	var held aws.CredentialsProvider
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		say(answer(ctx, lines.Text(), &held))
		cancel()
	}
}

func answer(ctx context.Context, command string, held *aws.CredentialsProvider) map[string]any {
	if command == "region" {
		// The way of config.WithEC2IMDSRegion.
		found, err := imds.New(imds.Options{}, func(o *imds.Options) { o.Endpoint = os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT") }).GetRegion(ctx, nil)
		if err != nil {
			return map[string]any{"error": err.Error()}
		}
		return map[string]any{"region": found.Region}
	}
	if cache, ok := (*held).(*aws.CredentialsCache); command == "again" && ok {
		cache.Invalidate()
	} else if command != "held" || *held == nil {
		loaded, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return map[string]any{"error": err.Error()}
		}
		*held = loaded.Credentials
	}
	keys, err := (*held).Retrieve(ctx)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return map[string]any{"accessKeyId": keys.AccessKeyID, "secretAccessKey": keys.SecretAccessKey, "token": keys.SessionToken}
}
